"""places-lt: Places365's images by the lists of Liu et al. (CVPR 2019)."""

from ltbench.data.datasets.listed import ListedSource, published_counts
from ltbench.data.official_lists.layout import ImageLayout
from ltbench.data.official_lists.published import Archive, Published, PublishedPart

PAGE = "http://places2.csail.mit.edu/download.html"
_VERSION_1 = "version 1: the images of version 2 in the same order, their paths written in another way"
_FOLDER = "http://data.csail.mit.edu/places/places365"


class PlacesLayout(ImageLayout):
    """Class folders as the full archive names them, or as the "easy" directory structure does."""

    def class_folder(self, written: str) -> str:
        """a/apartment_building/outdoor, which the easy format writes apartment_building-outdoor."""
        if written[1:2] == "/" or not written:
            return written
        return f"{written[0]}/{written.replace('-', '/')}"

    def flat_name(self, folder: str) -> str:
        """The folder's name as the easy format writes it."""
        return folder.partition("/")[2].replace("/", "-")


class PlacesLT(ListedSource):
    """365 kinds of scene with 4,980 to 5 training images: Places365 by the lists of "Open Long-Tailed Recognition".

    The test set is Places365's validation set. The lists are on record as version 2, which SADE and PaCo hand out, and
    version 1, which classifier-balancing and LIFT do; both name the same images in the same order. Papers fine-tune a
    ResNet-152 that was trained on ImageNet (``--backbone resnet152 --pretrained``); a network that starts from nothing
    is not comparable with theirs.
    """

    name = "places-lt"
    summary = "Places-LT: 62,500 photographs of 365 scenes, by lists; images downloaded on request"
    recipe_table = "places-lt"
    statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    published = Published(
        name=name,
        class_count=365,
        shot_groups=(131, 163, 71),
        train_counts=published_counts("places-lt"),
        parts={
            "train": PublishedPart(
                ("Places_LT_train.txt",),
                "train",
                62_500,
                blob="1d608b558c25c271da75c06f1e5e3625a4ebcb79",
                versions={"6392252f8ae867bc8a5e841cc1b29e5b8ef4b636": _VERSION_1},
            ),
            "validation": PublishedPart(
                ("Places_LT_val.txt",),
                "train",
                7_300,
                20,
                blob="89c29c0973328f77d7a77a8b580634ce20acdc11",
                versions={"b93a2ca58ccb7f3b671c176f395a70bf52c95533": _VERSION_1},
            ),
            "test": PublishedPart(
                ("Places_LT_test.txt",),
                "val",
                36_500,
                100,
                blob="d43400ac9bc2275baa058456da40b20abb50b108",
                versions={"e732e58b8aa718a2c1c11933375f5710652c2b93": _VERSION_1},
            ),
        },
        layout=PlacesLayout(
            templates={
                "train": ("data_256/{folder}/{image}", "data_256_standard/{folder}/{image}", "train/{flat}/{image}"),
                "val": ("val_256/{image}", "val/{flat}/{image}"),
            },
            roots={"data_256": "train", "train": "train", "val_256": "val", "val": "val"},
        ),
        archives=(
            Archive(
                file="train_256_places365standard.tar",
                size=24_000_000_000,
                md5="53ca1c756c3d1e7809517cc47c5561c5",
                page=PAGE,
                url=f"{_FOLDER}/train_256_places365standard.tar",
                image_set="train",
            ),
            Archive(
                file="val_256.tar",
                size=525_158_400,
                md5="e27b17d8d44f4af9a78502beb927f808",
                page=PAGE,
                url=f"{_FOLDER}/val_256.tar",
                image_set="val",
            ),
        ),
        list_folders=("Places_LT_v2", "Places_LT"),
        list_archives=("Places_LT_v2.zip", "Places_LT.zip"),
        list_page=(
            "the project page https://liuziwei7.github.io/projects/LongTail.html (version 2), or a copy in another "
            "repository such as Vanint/SADE-AgnosticLT, folder data_txt/Places_LT_v2"
        ),
    )
