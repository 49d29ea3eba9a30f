"""Many runs: grids of settings, sweeps over them, comparisons, and when to switch sides.

grid                         a YAML file of rows, values and seeds: `read_grid`
sweep, job_queue, sweep_job  run every combination, several at a time: `sweep`
sharing                      runs that differ in training share images and features
sweep_results                what was found, as rows, kept or read again: `results_of`, `collect`
sweep_tables, sweep_figures  scores and costs, ratios in pairs, curves over images and time
fixed_baselines              rows that nothing is trained for
run_groups, compare          any run folders side by side
traces, replay               runs as they went, and what a policy would have done in them
switch_findings              what runs that switched at different times say
explorer, explorer_figures, explorer_widget, explorer_page
"""
