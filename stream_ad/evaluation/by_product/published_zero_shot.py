"""Tables 1 and 2 of "Learning multi-granularity visual-textual alignment for zero-shot anomaly detection"."""

from collections.abc import Iterator

from stream_ad.evaluation.by_product.published import Printed, PublishedTable

METHODS = ("WinCLIP", "VAND", "AdaCLIP", "AnomalyCLIP", "FAPrompt", "MPA", "MPAMA")
#: (AUROC, AP) in %, a row a data set in the order of METHODS; -: not printed
IMAGE = """
MVTec AD      | 91.8 96.5 | 86.1 93.5 | 89.6 -    | 91.5 96.2 | 90.8 94.9 | 94.1 96.9 | 94.5 97.6
VisA          | 78.1 81.2 | 78.0 81.4 | 83.8 -    | 82.1 85.4 | 83.6 85.6 | 85.0 87.6 | 85.4 88.0
MPDD          | 63.6 69.9 | 73.0 80.2 | 76.8 -    | 77.0 82.0 | 77.5 82.2 | 79.4 81.4 | 81.2 82.1
BTAD          | 68.2 70.9 | 73.6 68.6 | 88.6 -    | 88.3 87.3 | 92.3 93.0 | 89.0 88.2 | 89.8 88.9
KolektorSDD   | 84.3 77.4 | 79.8 71.4 | -    -    | 84.7 80.0 | 81.8 77.5 | 84.9 80.8 | 85.2 81.2
DAGM 2007     | 91.8 79.5 | 94.4 83.8 | 98.3 -    | 97.5 92.3 | 96.9 90.6 | 98.4 92.9 | 98.5 93.2
DTD-Synthetic | 93.2 92.6 | 86.4 95.0 | 95.5 -    | 93.5 97.0 | 95.6 97.4 | 96.2 98.1 | 97.0 98.8
HeadCT        | 81.8 80.2 | 89.1 89.4 | 91.5 -    | 93.4 91.6 | 93.9 92.6 | 96.2 96.0 | 96.4 96.2
BrainMRI      | 86.6 91.5 | 89.3 90.9 | 94.8 -    | 90.3 92.2 | 94.8 93.7 | 95.0 95.8 | 95.6 96.0
Br35H         | 80.5 82.2 | 93.1 92.9 | 97.7 -    | 94.6 94.7 | 96.6 95.6 | 97.9 97.9 | 98.1 98.0
"""
#: (AUROC, PRO) in %
PIXEL = """
MVTec AD      | 85.1 64.6 | 87.6 44.0 | 90.3 -    | 91.1 81.4 | 90.6 81.6 | 92.5 87.5 | 93.2 88.3
VisA          | 79.6 56.8 | 94.2 86.8 | 95.6 -    | 95.5 87.0 | 95.6 86.7 | 95.8 87.9 | 96.1 88.6
MPDD          | 76.4 48.9 | 94.1 83.2 | 96.4 -    | 96.5 88.7 | 95.7 85.6 | 96.5 88.3 | 96.8 89.2
BTAD          | 72.7 27.3 | 60.8 25.0 | 92.1 -    | 94.2 74.8 | 94.8 75.1 | 95.3 78.5 | 96.0 79.1
KolektorSDD   | 68.8 24.2 | 79.8 65.1 | -    -    | 90.6 67.8 | 92.5 70.0 | 92.7 73.9 | 93.9 74.2
DAGM 2007     | 87.6 65.7 | 82.4 66.2 | 91.0 -    | 95.6 91.0 | 98.1 94.9 | 96.6 91.9 | 97.0 92.7
DTD-Synthetic | 83.9 57.8 | 95.3 86.9 | 96.9 -    | 97.9 92.3 | 98.0 92.2 | 98.3 92.9 | 98.5 93.8
ISIC          | 83.3 55.1 | 89.4 77.2 | 88.3 -    | 89.7 78.4 | 90.7 80.3 | 92.7 85.2 | 93.5 85.8
CVC-ColonDB   | 70.3 32.5 | 78.4 64.6 | 79.1 -    | 81.9 71.3 | 84.1 73.2 | 83.9 72.4 | 84.9 72.6
CVC-ClinicDB  | 51.2 13.8 | 80.5 60.7 | 84.4 -    | 82.9 67.8 | 83.9 69.3 | 84.6 70.5 | 84.9 70.3
Kvasir        | 69.7 24.5 | 75.0 36.2 | -    -    | 78.9 45.6 | 80.4 46.5 | 80.3 45.7 | 81.9 46.6
Endo          | 68.2 28.3 | 81.9 54.9 | -    -    | 84.1 63.6 | 85.9 65.0 | 87.1 68.8 | 87.7 69.5
"""


def _rows() -> Iterator[Printed]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for text, metrics in ((IMAGE, ("image_auroc", "image_ap")), (PIXEL, ("pixel_auroc", "pixel_pro"))):
        for line in text.strip().splitlines():
            dataset, *cells = (cell.strip() for cell in line.split("|"))
            for method, cell in zip(METHODS, cells, strict=True):
                numbers = zip(metrics, cell.split(), strict=True)
                values = {metric: round(float(one) / 100, 3) for metric, one in numbers if one != "-"}
                found.setdefault((dataset, method), {}).update(values)
    for (dataset, method), values in found.items():
        if values:
            yield Printed(method=method, dataset=dataset, values=values)


TABLES = (
    PublishedTable(
        title="Tables 1 and 2 of the paper",
        remarks=[
            "Context only, *other split*: theirs is ViT-L/14@336 at 518 px, trained on the test part of MVTec AD (of"
            " VisA for MVTec AD), mean of five runs, all products of a set.",
            "Ours: the backbone, pictures and folds named above. Rows of WinCLIP to FAPrompt are as the paper prints"
            " them.",
        ],
        rows=list(_rows()),
        ours=("MPAMA", "MPA", "ensemble"),
    ),
)
