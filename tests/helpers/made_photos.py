"""A small folder of photos, with what goes wrong in one."""

import numpy as np
from PIL import Image


def picture(k, size=(24, 18)):
    """Noise number `k`."""
    rng = np.random.default_rng(k)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


STRANGE = 'né,"quoted" <b>\n\U0001f33b.png'


def make_photos(root):
    """Three different pictures, two duplicates, three bad files. Returns `root`."""
    (root / "sub").mkdir(parents=True)
    picture(0).save(root / "one.png")
    picture(1).save(root / "sub" / STRANGE)
    picture(2).save(root / "turned.png")
    picture(0).save(root / "same pixels.bmp")  # another format, the same pixels
    quarter = picture(2).transpose(Image.Transpose.ROTATE_90)
    exif = quarter.getexif()
    exif[0x0112] = 6  # shown turned back
    quarter.save(root / "zz turned by EXIF.png", exif=exif)
    (root / "empty.jpg").touch()
    (root / "sub" / "text.jpg").write_text("no image")
    data = (root / "one.png").read_bytes()
    (root / "cut.png").write_bytes(data[:-200])
    return root
