"""inaturalist2018: the challenge's own long tail, from its annotations or from the lists that papers use."""

from ltbench.data.datasets.listed import ListedSource
from ltbench.data.official_lists.layout import ImageLayout
from ltbench.data.official_lists.published import Archive, Published, PublishedPart

PAGE = "https://github.com/visipedia/inat_comp/tree/master/2018"
_FOLDER = "https://ml-inat-competition-datasets.s3.amazonaws.com/2018"


class INaturalistLayout(ImageLayout):
    """Class folders are named after the category's id, which is the label."""

    def label_of(self, folder: str) -> int | None:
        """The category's id: the last folder."""
        name = folder.rpartition("/")[2]
        return int(name) if name.isdecimal() else None


class INaturalist2018(ListedSource):
    """8,142 species with 1,000 to 2 training images: a natural long tail.

    A label is the category's id, which its folder is called after, as in torchvision's ``INaturalist``. The test
    set is the official validation set, as in all papers; there is no other for validation.
    """

    name = "inaturalist2018"
    summary = "iNaturalist 2018: 437,513 photographs of 8,142 species; 120 GB, downloaded on request"
    recipe_table = "inaturalist2018"
    statistics = ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))
    published = Published(
        name=name,
        class_count=8142,
        shot_groups=(842, 4076, 3224),
        train_counts=None,
        parts={
            "train": PublishedPart(
                ("iNaturalist18_train.txt", "train2018.json"),
                "train_val",
                437_513,
                blob="4accdb7584d2f0a5106c40a33ed6afa392189bcc",
            ),
            "test": PublishedPart(
                ("iNaturalist18_val.txt", "val2018.json"),
                "train_val",
                24_426,
                3,
                blob="4c23900857fd0f5adcd4cc0dffef345039eeb05f",
            ),
        },
        layout=INaturalistLayout(
            templates={"train_val": ("train_val2018/{folder}/{image}", "2018/{folder}/{image}")},
            roots={"train_val2018": "train_val", "2018": "train_val"},
        ),
        archives=(
            Archive(
                file="train2018.json.tar.gz",
                size=26_000_000,
                md5="bfa29d89d629cbf04d826a720c0a68b0",
                page=PAGE,
                url=f"{_FOLDER}/train2018.json.tar.gz",
                part="train",
            ),
            Archive(
                file="val2018.json.tar.gz",
                size=26_000_000,
                md5="f2ed8bfe3e9901cdefceb4e53cd3775d",
                page=PAGE,
                url=f"{_FOLDER}/val2018.json.tar.gz",
                part="test",
            ),
            Archive(
                file="train_val2018.tar.gz",
                size=120_000_000_000,
                md5="b1c6952ce38f31868cc50ea72d066cc3",
                page=PAGE,
                url=f"{_FOLDER}/train_val2018.tar.gz",
                image_set="train_val",
            ),
        ),
        list_folders=("iNaturalist18",),
        list_archives=("iNaturalist_train.zip",),
        list_page=f"train2018.json and val2018.json of the same page ({PAGE}), or the lists that papers made from them",
    )
