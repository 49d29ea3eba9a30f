"""Small YAML and JSON files that a person wrote: read with limits, refused in one line."""

from pathlib import Path

import yaml

__all__ = ["read_yaml"]

MOST_BYTES = 1_000_000
MOST_DEEP = 32
MOST_VALUES = 100_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that is given twice in one mapping."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"line {node.start_mark.line + 1}: {name!r} is given twice")
        return super().construct_mapping(node, deep)


def read_yaml(path):
    """Read a small YAML or JSON file.

    Parameters
    ----------
    path : path

    Returns
    -------
    object
        Mappings, lists and plain values.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ValueError
        It is not YAML, gives a key twice, or is too large, too deep or, through its aliases, too
        long when written out. The message starts with the path.
    """
    path = Path(path)
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES:,} bytes")
        text = content.decode("utf-8-sig")
        _check_size(text)
        return yaml.load(text, _Loader)  # a subclass of the safe one
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: it is not UTF-8 text ({error.reason})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None


def _check_size(text):
    """Refuse text that nests too deep, or whose aliases stand for too many values."""
    sizes, open_nodes = {}, [[None, 0]]  # anchor and values inside, of each node not closed yet
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} names nothing that ends before it")
            open_nodes[-1][1] += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            open_nodes[-1][1] += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            sizes[anchor] = size
            open_nodes[-1][1] += size
        if len(open_nodes) > MOST_DEEP:
            raise ValueError(f"nested more than {MOST_DEEP} levels deep")
        if open_nodes[-1][1] > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values, aliases written out")
