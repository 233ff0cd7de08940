"""imagenet-lt: ILSVRC 2012's images by the lists of Liu et al. (CVPR 2019)."""

from ltbench.data.datasets.listed import ListedSource, published_counts
from ltbench.data.official_lists.layout import ImageLayout
from ltbench.data.official_lists.published import Archive, Published, PublishedPart

PAGE = "https://image-net.org/challenges/LSVRC/2012/ (an account is needed: sign up and agree to the terms of access)"


class ImageNetLT(ListedSource):
    """1,000 classes of 1,280 to 5 training images: ILSVRC 2012 by the lists of "Open Long-Tailed Recognition".

    Validation is 20 training images of each class that are not trained on, the test set ILSVRC's validation set.
    """

    name = "imagenet-lt"
    summary = "ImageNet-LT: 115,846 photographs of 1,000 classes, by lists; ILSVRC 2012 needs an account"
    recipe_table = "imagenet-lt"
    statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    published = Published(
        name=name,
        class_count=1000,
        shot_groups=(385, 479, 136),
        train_counts=published_counts("imagenet-lt"),
        parts={
            "train": PublishedPart(
                ("ImageNet_LT_train.txt",), "train", 115_846, blob="a063f095fcd475db4cf8b0658c4b73955535bbf9"
            ),
            "validation": PublishedPart(
                ("ImageNet_LT_val.txt",), "train", 20_000, 20, blob="3ed3188b2f44829ce2dec1cc27040d8d40984088"
            ),
            "test": PublishedPart(
                ("ImageNet_LT_test.txt",), "val", 50_000, 50, blob="76a2fb9749d6cd29e765cc4f8c270f2504131e2f"
            ),
        },
        layout=ImageLayout(
            templates={
                "train": ("train/{folder}/{image}", "ILSVRC/Data/CLS-LOC/train/{folder}/{image}"),
                "val": ("val/{image}", "val/{folder}/{image}", "ILSVRC/Data/CLS-LOC/val/{image}"),
            },
            roots={"train": "train", "val": "val"},
        ),
        archives=(
            Archive(
                file="ILSVRC2012_img_train.tar",
                size=147_897_477_120,
                md5="1d675b47d978889d74fa0da5fadfb00e",
                page=PAGE,
                image_set="train",
                into="train",
                nested=True,
            ),
            Archive(
                file="ILSVRC2012_img_val.tar",
                size=6_744_924_160,
                md5="29b22e2961454d5413ddabcf34fc5622",
                page=PAGE,
                image_set="val",
                into="val",
            ),
        ),
        list_folders=("ImageNet_LT",),
        list_archives=("ImageNet_LT.zip",),
        list_page=(
            "the project page https://liuziwei7.github.io/projects/LongTail.html, or a copy in another repository such "
            "as Vanint/SADE-AgnosticLT, folder data_txt; any copy will do, since its content is checked"
        ),
    )
