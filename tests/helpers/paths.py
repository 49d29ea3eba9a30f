"""Where the checkout is, and what lies in it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "recorded"  # values of other programs, to compare ours with
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
