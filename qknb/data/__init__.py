"""From image files to the prepared sets that a run trains and is tested on.

folders              what lies in a folder: every file to use, or left out with the reason
image_files          one file as upright RGB (`read_rgb`, `read_picture`), or a `BadImage`
pixels, deep_files   deep, floating and transparent pixels as a person sees them
signatures           what a file is, by its first bytes
sources              a folder, a part, two joined: the protocol `Source`
scan                 a folder read from end to end: broken files, duplicates
scenes, materials    synthetic scenes
disc21               the challenge's data, in any of its layouts (disc21_layout, archives)
augment              edited copies: `augment`, `replay`, `describe`
transforms, edits    the table of edits, and how each is applied (augly_compat: by AugLy)
gist, gabor          colour GIST, and its PCA
splits, amounts      which images serve where, and how much that is
prepare              `prepare` a run (prepare_disc21, dataset, set_rows, set_writing)
image_sets           one prepared set, memory-mapped
prepared_sets        all sets of a run: `prepared`
truth                ground truth as CSV
"""
