"""The page that `qknb.report.report` fills in: structure and style, light and dark, on screen and on paper. `$name` marks a part."""

__all__ = ["PAGE"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #5b6472; --line: #dfe3e8; --paper: #ffffff; --tint: #f5f7f9; --link: #0067a3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #a3acb8; --line: #363c45; --paper: #16191e; --tint: #1f242b; --link: #6bb8ec; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3rem 0 .9rem; padding-top: .9rem; border-top: 1px solid var(--line); break-after: avoid; }
p { max-width: 46rem; margin: .6rem 0; }
a { color: var(--link); }
.when, .missing, figcaption, caption { color: var(--soft); }
.when { margin: 0 0 1.4rem; }
.summary p { font-size: 1.08rem; }
.missing { padding: .6rem .9rem; background: var(--tint); border-radius: .4rem; }
nav { margin: 1.6rem 0 0; font-size: .92rem; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.6rem 0 0; }
.cards div { background: var(--tint); border-radius: .5rem; padding: .8rem 1rem; break-inside: avoid; }
.cards b { display: block; font-size: 1.65rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; font-size: .92rem; margin: .4rem 0 1rem; }
th, td { padding: .34rem .8rem .34rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding: .34rem .2rem .34rem 1rem; }
.number + td:not(.number), .number + th:not(.number) { padding-left: 1.4rem; }
.ruled td { border-top: 2px solid var(--soft); }
caption { caption-side: bottom; text-align: left; padding-top: .6rem; font-size: .88rem; }
.scroll { overflow-x: auto; }
.results table { width: 100%; font-size: .82rem; }
.results .number { padding-left: .75rem; }
.results td:first-child { white-space: nowrap; font-weight: 600; }
figure { margin: 0 0 2.6rem; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: .4rem; padding: .4rem; }
figcaption { font-size: .92rem; max-width: 52rem; margin-top: .5rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--link); }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --tint: #f3f3f3; --link: #000; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  .cards { grid-template-columns: repeat(4, 1fr); }
  .cards div { padding: .4rem .6rem; }
  .scroll { overflow: visible; }
  .results table { font-size: 7.5pt; }
  .results .number { padding-left: .4rem; }
  h2 { margin-top: 1.6rem; }
  figure { margin-bottom: 1rem; }
  figure img { border: none; padding: 0; max-height: 22cm; width: auto; max-width: 100%; }
  #micro_ap img, #precision_recall img, #training img { max-height: 10cm; }
  tr { break-inside: avoid; }
}
"""

PAGE = (
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name: QK Iteration</title>
<style>"""
    + _STYLE
    + """</style>
</head>
<body>
<main>
<h1>$name</h1>
<p class=when>QK Iteration, image copy detection. Run begun $created.</p>
<div class=summary>$summary</div>
$cards
<nav><a href="#results">Results</a><a href="#figures">Figures</a><a href="#data">Images</a><a href="#settings">Settings</a><a href="#steps">Time</a><a
href="#versions">Versions</a><a href="#notebooks">Notebooks</a></nav>
<section class=results id=results><h2>Results on held-out images</h2>$results</section>
<section id=figures><h2>Figures</h2>$figures</section>
<section id=data><h2>Images</h2>$data</section>
<section id=settings><h2>Settings, and what differs from the paper</h2>$settings</section>
<section id=steps><h2>Time of each step</h2>$steps</section>
<section id=versions><h2>Versions</h2>$versions</section>
<section id=notebooks><h2>Executed notebooks</h2>$notebooks</section>
</main>
</body>
</html>
"""
)
