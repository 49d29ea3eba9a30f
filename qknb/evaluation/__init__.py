"""From descriptors to numbers, by the rules of the Image Similarity Challenge.

search               exact search: the best pairs of two sets, or the nearest of each query
running_top          the best pairs of a long stream
ranking              predictions in one global order, the ground truth found in it
metrics              micro-AP, recall at P90, recall at rank, and their bootstrap intervals
normalization        score normalization, written into the descriptors
unseen_edits         copies whose edits were kept out of training
scorer               every row of a run evaluated and recorded
rows                 `EvaluationRow`, a line of metrics.jsonl, and what it has cost
spread               mean and standard deviation over seeds
results              what a run holds, as arrays for figures
submission           the challenge's file, and match lists
paper                the paper's numbers
"""
