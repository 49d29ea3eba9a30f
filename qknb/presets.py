"""Presets: named sets of settings that depart from the paper's, {preset: {setting: value}}. `qknb.config.experiment` makes an experiment of one."""

__all__ = ["PRESETS"]

_CPU = dict(
    backbone="EfficientNetLite0",
    image_size=96,
    head_input="whitened",
    head_init="zero",
    head_layers=0,
    residual_scale=1.0,
    train_backbone=False,
    views=4,
    extra_scenes=4000,
    learning_rate=1e-3,
    cosine_steps=0,
    cosine_alpha=0.0,
    steps_per_phase=800,
    eval_every=200,
)
PRESETS = {
    # A look during a phase embeds and searches the validation images alone and changes no weight: about thirty of them in a phase of 62,500 steps.
    "paper": dict(eval_every=2000),
    # A 15 GB T4: mixed precision, the bank in halves trained one after another.
    "t4": dict(dtype_policy="mixed_float16", bank_chunks=2, eval_every=2000),
    # Two processor cores and minutes: see "What differs from the paper" in the README for each line.
    "cpu": _CPU,
    # Seconds: every part runs, nothing is learned. For tests.
    "smoke": _CPU
    | dict(
        image_size=32,
        n_scenes=96,
        test_references=16,
        test_queries=16,
        val_references=8,
        val_queries=8,
        batch_size=8,
        phases=3,
        steps_per_phase=6,
        train_backbone=True,
        block_rows=64,
        log_every=2,
        eval_every=0,  # a phase of six steps has no middle to look at
        views=1,
        extra_scenes=0,
        checkpoint_steps=2,
        embed_batch=32,
    ),
}
