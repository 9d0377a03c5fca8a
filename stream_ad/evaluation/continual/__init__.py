"""`stream-ad bench continual`: methods that live through a sequence of tasks, measured side by side.

Tasks arrive one at a time. After task k every task j <= k is scored through the router and with its task told, which
gives `R[k, j]` for all metrics. Every method sees the same pictures and the same frozen features.

variants.py   names, and the detector and options behind each
methods.py    what a method holds after each step: one entry per task, the last one only, a replayed or a shared one
budget.py     old entries shrink into a fixed number of rows
learned.py    entries, learned once and kept on disk
test_set.py   a task's test pictures with their features and masks, in bounded memory
measure.py    one method on one task's test pictures, after every step
parts.py      what was measured, on disk, so that a run that was cut off goes on
run.py        all of it in order
results.py    the figures, as the JSON file has them
differences.py  paired bootstrap
published.py  the paper's tables
renderings.py   Markdown and HTML

Nothing of a test picture is looked at before everything is learned, and every look is in the file.
"""
