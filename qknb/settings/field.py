"""What a setting knows about itself: default, help, range, where it applies and what it affects.

`qknb.settings` declares each setting once with `setting(...)`; checks, tables, documentation and
the comparison of runs are derived from what is said there.
"""

import dataclasses

__all__ = [
    "FEATURES",
    "IMAGES",
    "RUNNING",
    "TEST_IMAGES",
    "TRAINING",
    "WHITENING",
    "Only",
    "Setting",
    "setting",
]

TEST_IMAGES = "test images"  # the prepared images, and which of them the scores are measured on
IMAGES = "images"  # the prepared images
FEATURES = "features"  # what the pretrained backbone makes of them, and how they are scored
WHITENING = "whitening"  # what is made of the pretrained features before they reach the head
TRAINING = "training"  # nothing before the first phase
RUNNING = "running"  # how a run goes and what it logs, not the method


@dataclasses.dataclass(frozen=True)
class Only:
    """Where a setting has an effect: only where the setting `name` has one of `values`, is above
    `above`, or begins with `prefix`."""

    name: str
    values: tuple = ()
    above: float | None = None
    prefix: str = ""

    def holds(self, settings):
        """Whether it is so under these settings (bool)."""
        value = getattr(settings, self.name)
        if self.prefix:
            return value.startswith(self.prefix)
        return value in self.values if self.above is None else value > self.above

    def __str__(self):
        if self.above is not None:
            return f"{self.name} above {self.above:g}"
        if self.prefix:
            return f"{self.name}={self.prefix}FILE"
        return f"{self.name}={' or '.join(map(repr, self.values))}"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting as it was declared.

    Attributes
    ----------
    default : str, int, float or bool
        The paper's value.
    help : str
        One sentence.
    group : str
        Heading under which it is listed.
    affects : str
        The first part of a run that another value changes: `TEST_IMAGES`, `IMAGES`, `FEATURES`,
        `WHITENING`, `TRAINING` or `RUNNING`.
    choices : tuple
        All values allowed; (): any in the range.
    low, high : float, optional
        The least and the greatest value.
    above, below : float, optional
        As `low` and `high`, but these values themselves are not allowed.
    only : Only, optional
        Where it has an effect; elsewhere it must stand at its default.
    resumable : bool
        Whether it may differ when a run is opened again: it changes how far or how fast a run goes,
        not its numbers.
    of_data : bool
        Whether it says what a run works on, and not how the method works: no change from the paper.
    auto : int, optional
        The value that the word "auto" stands for.
    """

    default: str | int | float | bool
    help: str
    group: str
    affects: str
    choices: tuple = ()
    low: float | None = 0
    high: float | None = None
    above: float | None = None
    below: float | None = None
    only: Only | None = None
    resumable: bool = False
    of_data: bool = False
    auto: int | None = None

    @property
    def kind(self):
        """Its type: str, int, float or bool."""
        return type(self.default)

    def range(self):
        """The values allowed, such as "one of adam, lars" or "above 0, at most 1"; "" for any,
        and for any that is not negative."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind not in (int, float):
            return ""
        if self.above is not None:
            words = [f"above {self.above:g}"]
        else:
            words = [f"from {self.low:g}"] if self.low or self.below or self.high else []
        words += [f"below {self.below:g}"] if self.below is not None else []
        words += [f"at most {self.high:g}"] if self.high is not None else []
        return ", ".join(words)

    def fault(self, value):
        """What is wrong with a value of the right type, such as "it must be greater than 0" (str);
        None when nothing is."""
        if self.choices and value not in self.choices:
            return f"choose one of {', '.join(map(repr, self.choices))}"
        if self.kind not in (int, float):
            return None
        tests = (
            (self.above, lambda end: value > end, "it must be greater than {:g}"),
            (self.low, lambda end: value >= end, "it must not be below {:g}"),
            (self.high, lambda end: value <= end, "at most {:g}"),
            (self.below, lambda end: value < end, "it must be below {:g}"),
            (float("inf"), lambda end: abs(value) < end, "it must be finite"),
        )
        for end, fits, words in tests:
            if end is not None and not fits(end):
                return words.format(end)
        return None


def setting(default, help, **known):
    """A dataclass field that carries a `Setting`; keywords are those of `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(default, help, **known)})
