"""Lists of images: files with a column for the image, one for its label, and perhaps silo, group and split."""

from fedclip_plugin.data.lists.image_list import ImageList
from fedclip_plugin.data.lists.list_file import Columns, Row, is_list, read_rows
from fedclip_plugin.data.lists.write_list import write_list

__all__ = ["Columns", "ImageList", "Row", "is_list", "read_rows", "write_list"]
