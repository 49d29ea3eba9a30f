"""What the rest stands on: files, locks, processes, the machine, and how things are shown.

files                files replaced in one step, or not at all
block_writer         arrays written block by block that survive a kill (block_files)
checksums            whether a file is still the one that was written
records              what a run's files were when they were written, compared before they are used
remedies             what to do about a file that is damaged or missing
locks                one writer at a time in a folder, on network drives too
workers, cluster     work in several processes, here or on Dask's workers
division             work in parts without a scheduler: `--part 2/8`
hosts                several machines that train together: who is first, and what it tells
machine              cores, memory, GPUs, versions of packages
linear_algebra       PCA and unit length, to the same bits on every machine
keras_import         Keras, imported quietly
progress             progress with an end time
formatting           numbers as text
dataframes           tables: DataFrames that know how they are shown
safe_text            names from outside on a terminal and in a spreadsheet
yaml_file            YAML from outside, with limits
host_call            a computation of the host inside a compiled step
"""
