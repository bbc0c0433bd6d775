"""Image folders and lists: which images a rank holds, how they are split, and how one file becomes RGB pixels."""

from fedclip_plugin.data.checking.folder_check import check_images
from fedclip_plugin.data.checking.folder_report import FolderReport
from fedclip_plugin.data.checking.listing import FolderListing, list_images
from fedclip_plugin.data.checking.remarks import remarks
from fedclip_plugin.data.every_silo import common_classes, look_at_own_file, require_images_here
from fedclip_plugin.data.image_folders import find_layout, list_domains, scan_folder
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.layout import silo_image_set, silo_names, target_image_set
from fedclip_plugin.data.lists import Columns, ImageList, Row, is_list, write_list
from fedclip_plugin.data.partition import partition
from fedclip_plugin.data.read_image import IMAGE_SUFFIXES, UnreadableImageError, UnreadableImagesError, open_rgb
from fedclip_plugin.data.split_folders import scan_images, scan_splits
from fedclip_plugin.data.splits import PARTS, Split, sizes_60_20_20, split_60_20_20, split_images, split_target

__all__ = [
    "Columns",
    "FolderListing",
    "FolderReport",
    "IMAGE_SUFFIXES",
    "ImageList",
    "ImageSet",
    "PARTS",
    "Row",
    "Split",
    "UnreadableImageError",
    "UnreadableImagesError",
    "check_images",
    "common_classes",
    "find_layout",
    "is_list",
    "list_domains",
    "list_images",
    "look_at_own_file",
    "open_rgb",
    "partition",
    "remarks",
    "require_images_here",
    "scan_folder",
    "scan_images",
    "scan_splits",
    "silo_image_set",
    "silo_names",
    "sizes_60_20_20",
    "split_60_20_20",
    "split_images",
    "split_target",
    "target_image_set",
    "write_list",
]
