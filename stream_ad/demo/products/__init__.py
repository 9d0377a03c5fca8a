"""The seven product lines of the demo."""

from collections.abc import Mapping
from types import MappingProxyType

from stream_ad.demo.product import Product
from stream_ad.demo.products.blister import BLISTER
from stream_ad.demo.products.casting import CASTING
from stream_ad.demo.products.cloth import CLOTH
from stream_ad.demo.products.gasket import GASKET
from stream_ad.demo.products.insulator import INSULATOR
from stream_ad.demo.products.pcb import PCB
from stream_ad.demo.products.screw import SCREW

#: by name, in the order in which the demo adds them; the last is held back as the unknown product
PRODUCTS: Mapping[str, Product] = MappingProxyType(
    {product.name: product for product in (GASKET, PCB, BLISTER, SCREW, CLOTH, CASTING, INSULATOR)}
)

__all__ = ["PRODUCTS"]
