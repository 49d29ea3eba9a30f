"""What networks were given when they were trained: pixels of 0..255, in red, green, blue."""

import numpy as np

__all__ = ["CAFFE_MEAN", "IMAGENET_MEAN", "IMAGENET_STD"]

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255
CAFFE_MEAN = np.array([123.68, 116.779, 103.939])
