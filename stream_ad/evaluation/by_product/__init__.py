"""Methods judged product by product: zero-shot, few-shot, reconstruction. No sequence, no router, the product is told.

A *fold* is a product to judge and the products that shared weights may be trained on. A *method* learns what it may of
a fold with a seed, and then scores its test pictures. To measure another method:

    def learn(fold: Fold, seed: int, progress: Progress) -> Learned:
        # trains on `fold.auxiliary` (products whose test pictures are labelled), may take normals of the product
        # itself from `fold.normals`, never looks at `fold.test`; keeps its own states on disk, so that a run goes on
        def score(views: Views) -> list[Scored]:          # a score and a map per picture, maps of any square size
            return [Scored(0.0, np.zeros((14, 14), np.float32)) for _ in range(len(views))]

        return Learned(score)

    method = Method(name="nothing", about="one line for a reader", options={"what": "figures depend on"},
                    backbone=backbone, learn=learn)
    run = ByProduct(Plan(folds=leave_one_out(products), methods=[method, ...], seeds=(0, 1, 2)), Kit(...))
    run.run()
    report = figures(run) | {"differences": differences(run)}      # and "provenance"

A detector of the registry with one branch is `of_detector(...)`, with any number of normals. `commands/by_product.py`
does all of it for a command: options, folds, provenance, the files beside FILE.json.

folds.py        leave one product out, train on some and judge others, kinds of damage that were never seen
methods.py      a method, and a detector of the registry as one
run.py          every method on every fold with every seed; parts on disk
sizes.py        damage in four parts by its size
results.py      the figures, as the JSON file has them
resampled.py    pixel AUROC and PRO of resampled pictures
differences.py  paired bootstrap
published.py    rows of papers, to stand beside ours
renderings.py   Markdown

Keys of the report are those of `bench continual` where they mean the same; its parts, test sets and metrics are used.
"""
