"""Which models of stage 0 have to be made: those in use, and what each of them starts from.

A model that is there already, here or where its table's `made` says, needs none before it. What is
left out: making one (pretrain.py).
"""

from pathlib import Path

from steper_serve.recipes.distill import manifest
from steper_serve.recipes.distill.config import Config, pretrained


def needed(config: Config) -> list[str]:
    """Names of the tables [pretrain.NAME] that the recipe's other stages need, in file order."""
    wanted: set[str] = set()
    ahead = [config.teacher.model, config.student.model]
    ahead += [model.model for model in config.evaluate.models]
    while ahead:
        name = pretrained(ahead.pop())
        if name is None or name in wanted:
            continue
        wanted.add(name)
        if not is_there(config, name) and made_before(config, name) is None:
            ahead.append(config.pretrain[name].start)
    return [name for name in config.pretrain if name in wanted]


def is_there(config: Config, name: str) -> bool:
    """Whether this recipe has made the model already."""
    return manifest.finished(config.out / "pretrain" / name, config.pretrain_hash(name)) is not None


def made_before(config: Config, name: str) -> Path | None:
    """The folder `made` of the model's table, if its manifest is one of the very same table."""
    folder = config.pretrain[name].made
    if folder is None or manifest.finished(folder, config.pretrain_hash(name)) is None:
        return None
    return folder
