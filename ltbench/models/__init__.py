"""Networks: the CIFAR ResNets, expert branches over any timm backbone, and classifier heads."""
