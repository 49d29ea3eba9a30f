"""A run's size and result in plain words, for people who do not read tables: what can be learned from so many images, and what came out."""

from .tables import GIST_ROW, show_share

__all__ = ["advice", "verdict"]

FEW, SOME, MANY, VERY_MANY = 300, 2_000, 50_000, 500_000  # training originals


def advice(keys, matched_queries):
    """What to expect of a training set.

    The bounds are rules of thumb: from thousands of photos, heads alone learn to beat the untrained rows; whole backbones need more.

    Parameters
    ----------
    keys : int
        Training originals.
    matched_queries : int
        Test queries that are copies of a reference.

    Returns
    -------
    str
        Sentences.
    """
    found = f"{keys:,} images to learn from"
    if keys < FEW:
        text = (f"{found} are too few: take what follows as a demonstration. The pretrained features without training (the rows \"untrained\" of "
                "the table) are likely to find copies better. Give more images, or add embedded scenes to them: settings=\"extra_scenes=4000\".")
    elif keys < SOME:
        text = (f"{found} are few. Training may help; trust it only if the last phase ends clearly above the \"untrained\" rows of the table. "
                "Several copies of each image help (settings=\"views=4\"), and so do embedded scenes (\"extra_scenes=4000\").")
    elif keys < MANY:
        text = f"{found}: what the preset cpu is made for. More steps help for a while: settings=\"steps_per_phase=2000\"."
    elif keys < VERY_MANY:
        text = f"{found}: enough to train the backbones as well. Take a GPU and the preset t4; on processors alone, the preset cpu still works."
    else:
        text = f"{found}: the paper's size. Take a GPU and the preset paper or t4, and expect hours to days for each phase."
    if matched_queries < 1000:
        text += (f" The test has {matched_queries:,} copies to find, so its scores are uncertain by about ±{min(1, matched_queries ** -0.5 if matched_queries else 1):.2f}: "
                 "small differences mean nothing.")
    return text


def verdict(rows):
    """The result of a run in a few sentences.

    Parameters
    ----------
    rows : list of dict
        As `qknb.tables.metric_rows` gives them: reference rows, then phases.

    Returns
    -------
    str
    """
    if not rows:
        return "Nothing has been evaluated yet."
    last, untrained = rows[-1], [row for row in rows if not row["phase_index"]]
    if not last["phase_index"]:
        return "Only the rows without training have been evaluated yet."
    others = "".join(f"; {row['row']} {_found(row)}" for row in untrained)
    words = [f"Where 9 of 10 reported pairs must be right, {last['row']}, the last phase, finds {_found(last)} of the copies{others}."]
    best = max(untrained, key=lambda row: row["micro_ap"], default=None)
    if best is None:
        return words[0]
    low, high = last.get("micro_ap_interval") or (last["micro_ap"], last["micro_ap"])
    name = "GIST" if best["row"] == GIST_ROW else f'"{best["row"]}"'
    if best["micro_ap"] < low:
        words.append(f"Training paid: micro-AP {last['micro_ap']:.3f}, and {best['micro_ap']:.3f} for {name}, the best row without training.")
    elif best["micro_ap"] <= high:
        words.append(f"Whether training paid is open: micro-AP {last['micro_ap']:.3f}, and {best['micro_ap']:.3f} for {name}, the best row without training, "
                     f"lie within this test's uncertainty ({low:.3f} to {high:.3f}). More test images would tell.")
    else:
        words.append(f"Training did not pay here: micro-AP {last['micro_ap']:.3f}, but {best['micro_ap']:.3f} for {name} without training. "
                     "More images or more steps may change that.")
    return " ".join(words)


def _found(row):
    return show_share(row["recall_at_p90"] or 0)
