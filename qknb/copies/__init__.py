"""What a run has learned, put to use: a descriptor to keep, an index of a folder, copies found.

descriptor           `Descriptor`: describes images, finds copies, compares two pictures
index                `CopyIndex`: a folder described once; built, brought up to date, searched
find                 `find_copies`, `near_duplicates`: which images are copies, how sure that is
found_files          what `find` writes: lists, the page, the report on a leak (lists, gallery)
groups               near-duplicates that do not chain, and which of them to keep
decisions            what a person has said of pairs: right, wrong, ignore
viewer               found copies in a notebook
export               the towers of a run as files of their own (exported, model_card, plain_model)
copytest             copies found and false positives by kind of edit, beside GIST and pHash

How it is decided: a query and its `parts` are described (describer), their nearest pictures are
`lookup`'s candidates (ann_search), `checking` compares the pictures by local features (`verify`),
`decision` turns all that into a confidence, by a rule that `fitting` fits in the user's collection.
An index is written by `indexing` (changes, describing, generations) and read by `stored_index`.
"""
