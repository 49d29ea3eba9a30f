"""What a file is, by its first bytes."""

__all__ = ["HEAD", "describe_content", "kind_of"]

HEAD = 32
"""Bytes to look at."""
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}
_OTHERS = (
    (b"%!PS", "a PostScript program"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript program"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
)


def kind_of(head: bytes) -> str:
    """The format of an image by the first `HEAD` bytes of its file; "" for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, len(head), 4))]
        return next((kind for kind, own in _BRANDS.items() if any(b in own for b in brands)), "")
    return next((kind for start, kind in _STARTS if head.startswith(start)), "")


def describe_content(head: bytes) -> str:
    """What a file is that is no image, for a message; "of an unknown format" at worst."""
    text = head.lstrip().lower()
    found = (what for start, what in _OTHERS if text.startswith(start.lower()))
    return next(found, "or of an unknown format")
