"""Names of the backbones and the width of their pooled features, for settings that are checked
before Keras is there.
"""

import difflib

__all__ = ["FEATURES", "LITE0", "feature_dim"]

LITE0 = "EfficientNetLite0"
FEATURES = {LITE0: 1280}  # name -> number of pooled features
FEATURES |= {
    f"EfficientNetB{i}": f for i, f in enumerate((1280, 1280, 1408, 1536, 1792, 2048, 2304, 2560))
}
FEATURES |= {f"EfficientNetV2B{i}": f for i, f in enumerate((1280, 1280, 1408, 1536))}
FEATURES |= {f"EfficientNetV2{letter}": 1280 for letter in "SML"}


def feature_dim(name):
    """Number of pooled features of a backbone: 1,536 for `EfficientNetB3`, 1,280 for
    `EfficientNetLite0`.

    Raises
    ------
    ValueError
        Unknown name; the message lists near and known names.
    """
    if name not in FEATURES:
        near = difflib.get_close_matches(str(name), FEATURES, n=3)
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ValueError(f"unknown backbone {name!r}{hint}; known: {', '.join(FEATURES)}")
    return FEATURES[name]
