"""Every setting: its default, which is the paper's value, what it does, and where it applies.

Source of the defaults: Wu & Wu 2021 (arXiv 2111.07954), sections 3 and 4. What the paper leaves
open is a setting too, and its sentence says so. A new setting is written in one place, with the
others of its kind; checks, the command line and the documentation follow.

    field              setting(...): what a setting says about itself
    image_settings     what a run works on
    tower_settings     backbone and head
    training_settings  loss, optimization, when to switch sides
    running_settings   the bank, and how a run goes on a machine
    given              settings as words, text, a mapping or a YAML file
    checks             ranges, and what does not go together
    reference          all settings as text and as docs/settings.md

`Settings` has them all as fields, `SETTINGS` as a dict {name: Setting}.
"""

import dataclasses

from qknb.settings.field import Setting
from qknb.settings.image_settings import ImageSettings
from qknb.settings.running_settings import RunningSettings
from qknb.settings.tower_settings import TowerSettings
from qknb.settings.training_settings import TrainingSettings

__all__ = ["SETTINGS", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings(RunningSettings, TrainingSettings, TowerSettings, ImageSettings):
    """The fields of `qknb.config.Experiment`, those of the last base first."""


SETTINGS: dict[str, Setting] = {
    field.name: field.metadata["setting"] for field in dataclasses.fields(Settings)
}
"""All settings by name, in order."""
