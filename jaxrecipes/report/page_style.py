"""Skeleton and style sheet of the run's HTML page."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>{title}</h1><p>{subtitle}</p></header>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #22262b; --soft: #667080; --line: #e1e4e9;
  --accent: #0072b2; --warn: #b4232a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --card: #1e2227; --ink: #e6e9ed; --soft: #98a2b0; --line: #32383f;
    --accent: #6cb8ea; --warn: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { margin: 0; font-size: 26px; overflow-wrap: anywhere; }
h2 { margin: 34px 0 12px; font-size: 17px; }
header p { margin: 4px 0 0; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 10px; }
.tile {
  padding: 12px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
}
.tile .value { font-size: 21px; font-weight: 600; overflow-wrap: anywhere; }
.tile .name { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 14px; }
figure {
  margin: 0; padding: 10px; background: #ffffff; border: 1px solid var(--line);
  border-radius: 8px; text-align: center;
}
figure.wide { grid-column: 1 / -1; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #667080; font-size: 13px; }
details > summary { cursor: pointer; color: var(--soft); margin-bottom: 8px; }
.scroll { overflow: auto; max-height: 520px; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; background: var(--card); font-size: 13px; }
.epochs { width: 100%; font-variant-numeric: tabular-nums; }
.epochs th, .epochs td { padding: 4px 10px; text-align: right; white-space: nowrap; }
.epochs td { border-top: 1px solid var(--line); }
.epochs thead { position: sticky; top: 0; background: var(--card); }
.epochs thead tr:first-child th { color: var(--accent); text-align: left; }
.epochs th { color: var(--soft); font-weight: 600; }
.pairs { width: 100%; border: 1px solid var(--line); border-radius: 8px; }
.pairs th, .pairs td {
  padding: 4px 12px; border-top: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere;
}
.pairs th { width: 32%; color: var(--soft); font-weight: 500; }
.problems { margin-top: 18px; color: var(--warn); }
.empty { color: var(--soft); }
"""
