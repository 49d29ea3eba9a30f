"""The commands that use what a run has learned: `export`, `index`, `find` and `copytest`."""

from pathlib import Path

from qknb.run_commands import CLUSTER_HELP
from qknb.system.safe_text import printable

__all__ = ["COMMANDS", "add_commands"]

COMMANDS = {
    "export": "write the towers of a trained run as files of their own, with a model card",
    "index": "describe all images of a folder, so that copies can be found in it; again: update it",
    "find": "find which images are copies of indexed ones, or near-duplicates in it (--self)",
    "copytest": "count copies found and false positives at the threshold, beside GIST and pHash",
}
LISTED = 10  # lines printed of a long list

_RUN = "name of a trained run below ROOT, or the path of its folder"


def add_commands(steps):
    """Add the commands to an argparse subparsers object."""
    export, index, find, copytest = (
        steps.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in COMMANDS.items()
    )
    for parser, do in ((export, _export), (index, _index), (find, _find), (copytest, _copytest)):
        parser.set_defaults(do=do)
    export.add_argument("--run", required=True, help=_RUN)
    index.add_argument("--run", help=f"{_RUN} (default: the descriptor that comes with qknb)")
    find.add_argument("--run", help="where the run of the index is now, if it was moved")
    copytest.add_argument(
        "--run",
        required=True,
        nargs="+",
        help="finished runs that differ in their seed; their counts are added up",
    )
    copytest.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the tables as .csv (default: RUN/tables for one run, none for several)",
    )
    for parser in (export, index, find, copytest):
        parser.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
    _add_index(index)
    _add_find(find)


def _add_index(index):
    add = index.add_argument
    add("folder", metavar="DIR", help="folder of images; subfolders are searched")
    add("--index", help="folder of the index (default: RUN/index/<name of DIR>)")
    add("--exclude", metavar="PATTERN", nargs="+", help='files to leave out: "*.gif" "backup/*"')
    add("--parts", action="store_true", default=None, help=PARTS_HELP)
    add("--prune", action="store_true", help="let vanished images go even from an empty folder")
    add("--no-fit", action="store_true", help="do not fit confidences in this collection")
    add("--factory", help='faiss factory string for millions: "HNSW32" (default: exact search)')
    add("--parameters", help='search parameters of that index, such as "efSearch=128"')
    add("--rebuild", action="store_true", help="start afresh where another index is in the way")
    add("--cluster", metavar="ADDRESS", help=CLUSTER_HELP)
    add("--part", metavar="I/N", help=PART_OF_INDEX)


PART_OF_INDEX = (
    "describe the I-th of N parts of what is new, 1/N to N/N side by side; the one that ends last "
    "writes the index"
)
PARTS_HELP = "describe parts of the originals as well, for copies that show a small piece of one"


def _add_find(find):
    add = find.add_argument
    add("queries", nargs="*", metavar="QUERIES", help="folders, or image files")
    add("--index", required=True, help="folder of the index")
    add("--self", action="store_true", dest="within", help="near-duplicates within the index")
    add(
        "--precision",
        type=float,
        default=0.95,
        help="a pair is called a copy if of pairs like it so many are (default: .95)",
    )
    add("--unsure", type=float, default=0.5, help="pairs are listed from here (default: .5)")
    add("--top", type=int, default=1, help="matches of a query, beside verified ones (default: 1)")
    add(
        "--parts",
        nargs="*",
        metavar="PART",
        help="parts of a query that are looked up: mirrored, turned, halves, quarters, middle, "
        "corners, rectangles (default: what pays)",
    )
    add("--no-check", action="store_true", help="do not compare the pictures: faster, less sure")
    add("--cluster", metavar="ADDRESS", help=CLUSTER_HELP)
    add("--exclude", metavar="PATTERN", nargs="+", default=(), help="files to leave out")
    add("--decisions", metavar="FILE", nargs="+", default=(), help="decisions.csv of a page")
    add(
        "--keep", metavar="DIR", nargs="+", help="folders that --self proposes nothing to remove of"
    )
    add(
        "--leaks", action="store_true", help="report which queries have a copy, and which have none"
    )
    add(
        "--out",
        help="a folder, or a list .csv, .json, .jsonl, .parquet; a page is written beside it "
        "(default: RUN/found/<name>-<date>)",
    )


def _import_keras():
    from qknb.system.keras_import import import_keras

    import_keras()


def _run_path(options, name=None):
    name = name or options.run
    path = Path(name).expanduser()
    here = any((path / file).exists() for file in ("manifest.json", "descriptor.json"))
    return path if here else Path(options.root).expanduser() / name


def _export(options):
    _import_keras()
    from qknb.copies.export import export_run

    for path in sorted(export_run(_run_path(options)).iterdir()):
        print(path)


def _index(options):
    from qknb.copies.changes import own_place
    from qknb.copies.decision import Rule
    from qknb.copies.descriptor import Descriptor
    from qknb.copies.index import CopyIndex
    from qknb.copies.indexing import build_index
    from qknb.copies.shipped import SHIPPED
    from qknb.system.division import read_part

    part = read_part(options.part) if options.part else None
    run = _run_path(options) if options.run else None
    folder = Path(options.folder).expanduser()
    parent = (run or Path(options.root).expanduser() / "shipped") / "index"
    path = Path(options.index).expanduser() if options.index else own_place(parent, folder)
    whole = build_index(
        path,
        folder,
        Descriptor.load(run or SHIPPED),
        factory=options.factory,
        parameters=options.parameters,
        rebuild=options.rebuild,
        parts=options.parts,
        exclude=options.exclude,
        prune=options.prune,
        fit=not options.no_fit,
        report=lambda line: print(printable(line)),
        part=part,
    )
    if not whole:
        return
    index = CopyIndex(path)
    _print_listed(index.skipped, "files were left out")
    _print_listed(index.notes, "files hold more than is looked at")
    same = f", {index.n_pictures:,} different pictures" * (index.n_pictures < len(index))
    print(printable(f"{len(index):,} images indexed in {index.path}{same}"))
    print(Rule.from_json(index.facts["rule"]).note())
    if index.recall is not None:
        print(
            f"{index.facts['factory']} {index.facts['parameters']}: finds {index.recall:.1%} of "
            "the exact 10 nearest (measured with images of the index)"
        )
    print(printable(f"Next: qknb find QUERIES --index {index.path}"))


def _find(options):
    """Returns the exit status: 0 only when all that was given could be looked up."""
    from qknb.copies import found_files
    from qknb.copies.find import find_copies, near_duplicates
    from qknb.copies.index import CopyIndex

    _check_find(options)
    index = CopyIndex(Path(options.index).expanduser())
    name = "self" if options.within else Path(options.queries[0]).absolute().name
    place = found_files.place_of(index, options.out, name)
    descriptor = index.descriptor(_run_path(options) if options.run else None)
    settings = {"check": not options.no_check}
    if options.parts is not None:
        settings["parts"] = options.parts
    if options.within:
        found = near_duplicates(index, descriptor, **settings)
    else:
        queries = options.queries[0] if len(options.queries) == 1 else options.queries
        settings |= {"exclude": options.exclude, "thorough": options.top > 1}
        found = find_copies(index, descriptor, queries, **settings)
    written = found_files.write_results(
        place,
        found,
        descriptor,
        precision=options.precision,
        unsure=options.unsure,
        top=options.top,
        decisions=options.decisions,
        keep=options.keep,
        leaks=options.leaks,
    )
    for match in written.copies[:LISTED]:
        pair = printable(f"{match.query}  =  {match.match}")
        print(f"{100 * match.confidence:5.1f}  {pair}  ({match.what()})")
    if len(written.copies) > LISTED:
        print(f"... and {len(written.copies) - LISTED:,} more")
    _print_listed(found.skipped, "files were left out")
    _print_listed(found.notes, "files hold more than is looked at")
    print(*map(printable, [*written.sentences, *written.files]), sep="\n")
    return 0 if found.candidates and not found_files.failed(found) else 1


def _check_find(options):
    from qknb.copies.parts import QUERY_PARTS

    if bool(options.queries) == options.within:
        raise ValueError(
            "give folders or image files to look up, or --self to look for near-duplicates within "
            "the index (one of the two)"
        )
    if options.leaks and options.within:
        raise ValueError("--leaks is about images looked up, not about --self")
    if options.top < 1:
        raise ValueError(f"--top {options.top}: at least 1")
    for name in ("precision", "unsure"):
        if not 0 < getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name):g}: between 0 and 1")
    unknown = set(options.parts or ()) - set(QUERY_PARTS)
    if unknown:
        raise ValueError(f"--parts {unknown.pop()}: one of {', '.join(QUERY_PARTS)}")


def _copytest(options):
    from qknb.copies.copytest import copy_test, copy_test_table, edit_test_table
    from qknb.run import Run

    paths = [
        Run(_run_path(options, name)).path for name in options.run
    ]  # a damaged or foreign folder is named
    out = (
        Path(options.out).expanduser()
        if options.out
        else paths[0] / "tables"
        if len(paths) == 1
        else None
    )
    runs = [copy_test(path) for path in paths]
    for name, table in (
        ("copytest", copy_test_table(runs)),
        ("copytest_by_edit", edit_test_table(runs)),
    ):
        print(table.text(), end="\n\n")
        if out is not None:
            table.write_csv(out / f"{name}.csv")
            print(out / f"{name}.csv", end="\n\n")


def _print_listed(files, what):
    if files:
        print(f"{len(files):,} {what}:")
        for name, reason in files[:LISTED]:
            print(printable(f"  {name}: {reason}"))
        if len(files) > LISTED:
            print(f"  ... and {len(files) - LISTED:,} more")
