"""What a process that decodes and resizes images sets once, for all of its libraries."""

import functools

import cv2
import numpy as np
from PIL import Image


@functools.cache
def prepare_process() -> None:
    """Set the libraries' process-wide switches; a worker of any engine calls this before its first image."""
    cv2.setNumThreads(0)  # the parallelism is over shards
    # A file that OpenCV cannot read is no error of the run.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit warns first; `images` refuses at once
    # glibc returns freed memory to the kernel above a threshold that follows the largest block freed so far. Without
    # this block every image pays hundreds of page faults for its buffers, which cost as much as the resize.
    np.empty(31 << 20, np.uint8)
