"""What came out of a run, for people: tables, figures, galleries, and one HTML page.

tables               a run's table, and what its captions say
paper_tables         the paper's results beside ours
figures              micro-AP by phase, precision and recall
training_curves      loss and distances over the steps
curves               several runs in one figure, with their spread over seeds
descriptor_map       the descriptor space from above, by phase; `descriptor_map_views` draws it
edit_recall          which edits hide a copy; `edit_recall_figure` draws it
pairs, galleries     which pairs of images to look at; `gallery_figures` draws them
gist_figure          what GIST keeps of an image
style                the one style of all figures, as PNG, SVG, or for a page
page                 Jinja2 templates (templates/) and their one style sheet
artifacts            all that a run has to show, collected and written as files
answer, report       the page of a run, its first screen first
notebook_pages       executed notebooks as pages
evaluation_viewer    held-out results to move through; `evaluation_widget` has its controls
latest               of many requests to draw, the latest
"""
