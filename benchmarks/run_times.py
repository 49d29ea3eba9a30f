"""Where the time of a run went, from the lines that it printed.

    python benchmarks/run_times.py LOG [LOG ...]

Logs are what `qknb prepare`, `train` and `sweep` print where no one watches a bar (a sweep keeps
them in its folder `logs/`). What a killed process did before it stopped is not in them.
"""

import argparse
import re
from pathlib import Path

LINE = re.compile(
    r"^(?P<what>[\w ]+): (?P<n>[\d,]+) (?P<unit>\w+?)s(?:, (?P<now>[\d,]+) of them now,)?"
    r" in (?P<clock>[\d:]+)$",
    re.MULTILINE,
)


def parts(text):
    """[(what, unit, units done, seconds)] of finished parts, in order."""
    found = []
    for match in LINE.finditer(text):
        seconds = 0
        for part in match["clock"].split(":"):
            seconds = 60 * seconds + int(part)
        n = int((match["now"] or match["n"]).replace(",", ""))
        found.append((match["what"], match["unit"], n, seconds))
    return found


def main(arguments=None):
    """Print a table of all logs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("logs", nargs="+", metavar="LOG", type=Path)
    options = parser.parse_args(arguments)
    rows = [row for path in options.logs for row in parts(path.read_text("utf-8"))]
    whole = sum(seconds for *_, seconds in rows)
    print("| part | done | seconds | a second | share |\n| --- | --- | --- | --- | --- |")
    for what, unit, n, seconds in rows:
        rate = f"{n / seconds:,.1f}" if seconds else ""
        print(f"| {what} | {n:,} {unit}s | {seconds:,} | {rate} | {seconds / whole:.1%} |")


if __name__ == "__main__":
    main()
