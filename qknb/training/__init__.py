"""The method: the bank is mined, one side trains, then they change. Everything here runs on Keras.

losses, mining       equations 1-4, and the hardest pairs of a batch and the whole bank
bank, blocks         features of one side, and how they reach the device
batches              what a step is shown
learner              one step of co-learning; refreshed: approximate mining
optimizers           Adam or LARS, and the schedule
switching            when to change sides
phase, trainer       a phase from checkpoint to checkpoint; all phases of a run
run_towers           what stands between phases, on disk (backbone_file, hard_negatives)
monitor              validation inside a phase
baselines            SimCLR-style and MoCo-style learners; pair_phase: their phases
devices              several devices, on both backends; together: several hosts
budget               what a row has cost
workload, estimate   what a run has to do and will take (probe, memory_plan)
auto_preset, summary the preset that suits, and a run in plain words
duplicates           keys that show the same picture
scale                what exact mining would take at sizes that nobody has run
rehearsal            a first phase on the side, to be watched
"""

from qknb.system.keras_import import require_backend

require_backend()
