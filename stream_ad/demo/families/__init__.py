"""A generator of thousands of product families, for training on pictures with captions and masks.

    from stream_ad.demo.families import Split, example, family

    gasket = family(Split.TRAIN, 0)
    picture, mask = gasket.render(seed=1, defect="scratch", severity=0.8)
    example(Split.TRAIN, 12).caption

kinds/ (a blueprint from random numbers: materials, shapes, prints)  ->  damage  ->  look (light, place, lens, sensor)

None of the seven products of the demo is drawn here: they stay unseen.
"""

from stream_ad.demo.families.blueprint import DEFECTS
from stream_ad.demo.families.captions import STATES, caption
from stream_ad.demo.families.examples import Example, example, examples
from stream_ad.demo.families.family import Family, Split, family, kinds

__all__ = ["DEFECTS", "STATES", "Example", "Family", "Split", "caption", "example", "examples", "family", "kinds"]
