"""The commands that use what a run has learned: `export`, `index`, `find` and `copytest`."""

from pathlib import Path

__all__ = ["COMMANDS", "add_commands"]

COMMANDS = {
    "export": "write the towers of a trained run as .keras files, with a model card",
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
    index.add_argument("folder", metavar="DIR", help="folder of images; subfolders are searched")
    index.add_argument("--index", help="folder of the index (default: RUN/index/<name of DIR>)")
    index.add_argument(
        "--factory",
        help='faiss index factory string for large folders, such as "HNSW32" or "IVF1024,Flat"'
        " (default: exact search)",
    )
    index.add_argument(
        "--parameters",
        help='search parameters of that index, such as "efSearch=128" or "nprobe=32"',
    )
    index.add_argument(
        "--rebuild",
        action="store_true",
        help="start afresh where the index of another run or folder is in the way",
    )
    find.add_argument("queries", nargs="*", metavar="QUERIES", help="a folder, or image files")
    find.add_argument("--index", required=True, help="folder of the index")
    find.add_argument(
        "--self",
        action="store_true",
        dest="within",
        help="look for near-duplicates within the indexed folder instead",
    )
    find.add_argument(
        "--threshold",
        type=float,
        help="squared distance up to which a pair is called a copy (default: the run's own, see its"
        " model card)",
    )
    find.add_argument(
        "--unsure",
        type=float,
        help='squared distance up to which a pair is listed as "not sure" (default: the run\'s)',
    )
    find.add_argument(
        "--top", type=int, default=10, help="matches of a query at most (default: 10)"
    )
    find.add_argument(
        "--out",
        default="copies.csv",
        help="list of matches, .csv or .json; a gallery of the same name with .html is written"
        " beside it (default: copies.csv)",
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
    _import_keras()
    from qknb.copies.descriptor import Descriptor
    from qknb.copies.index import CopyIndex
    from qknb.copies.shipped import SHIPPED

    run = _run_path(options) if options.run else None
    folder = Path(options.folder).expanduser()
    path = (
        Path(options.index).expanduser()
        if options.index
        else (run or Path(options.root).expanduser() / "shipped") / "index" / folder.absolute().name
    )
    index = CopyIndex.build(
        path,
        folder,
        Descriptor.load(run or SHIPPED),
        factory=options.factory,
        parameters=options.parameters,
        rebuild=options.rebuild,
    )
    print(f"{len(index.ids):,} images indexed in {index.path}")
    if index.recall is not None:
        print(
            f"{index.facts['factory']} {index.facts['parameters']}: finds {index.recall:.1%} of "
            "the exact 10 nearest (measured with images of the index)"
        )
    _print_skipped(index.skipped)
    print(f"Next: python -m qknb find QUERIES --index {index.path}")


def _find(options):
    """Returns the exit status: 1 when no image could be looked up."""
    _import_keras()
    from qknb.copies.find import COPY, find_copies, limits_of, near_duplicates, write_matches
    from qknb.copies.gallery import write_gallery
    from qknb.copies.index import CopyIndex

    if bool(options.queries) == options.within:
        raise ValueError(
            "give a folder or image files to look up, or --self to look for near-duplicates within "
            "the index (one of the two)"
        )
    if options.top < 1:
        raise ValueError(f"--top {options.top}: at least 1")
    out = Path(options.out).expanduser()
    if out.suffix not in (".csv", ".json"):
        raise ValueError(f"--out {options.out}: the list of matches is written as .csv or .json")
    index = CopyIndex(Path(options.index).expanduser())
    descriptor = index.descriptor(_run_path(options) if options.run else None)
    limits = limits_of(descriptor, options.threshold, options.unsure)
    queries = options.queries[0] if len(options.queries) == 1 else options.queries
    found = (
        near_duplicates(index, descriptor, top=options.top)
        if options.within
        else find_copies(index, descriptor, queries, top=options.top)
    )
    groups = found.groups(limits) if options.within else None
    matches = write_matches(
        out,
        found,
        limits,
        groups=groups,
        facts={
            "index": str(index.path),
            "run": index.facts["run"],
            "descriptor": descriptor.fingerprint,
        },
    )
    page = write_gallery(
        out.with_suffix(".html"),
        found,
        limits,
        groups=groups,
        title="Near-duplicates" if options.within else "Copies",
    )
    copies = [match for match in matches if match.verdict == COPY]
    for match in copies[:LISTED]:
        print(f"{match.distance:.4f}  {match.query}  =  {match.match}")
    if len(copies) > LISTED:
        print(f"... and {len(copies) - LISTED:,} more")
    if groups is not None:
        print(
            f"{len(groups):,} groups of near-duplicates hold {sum(map(len, groups)):,} of "
            f"{len(index.ids):,} images"
        )
    print(
        f"{len(copies):,} copies, {len(matches) - len(copies):,} not sure, among "
        f"{len(found.queries):,} images looked up; {limits.note}"
    )
    _print_skipped(found.skipped)
    print(f"{out}\n{page}")
    return 0 if len(found.queries) else 1


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


def _print_skipped(skipped):
    if skipped:
        print(f"{len(skipped):,} files could not be read:")
        for name, reason in skipped[:LISTED]:
            print(f"  {name}: {reason}")
        if len(skipped) > LISTED:
            print(f"  ... and {len(skipped) - LISTED:,} more")
