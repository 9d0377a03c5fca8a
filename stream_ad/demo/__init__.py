"""The demo's world: seven rendered product lines, with and without defects.

    from stream_ad.demo import PRODUCTS, write_product

    picture, mask = PRODUCTS["gasket"].render(seed=1, defect="nick")

part (products/)  ->  material and relief (surface, noise, marks)  ->  light (shading)  ->  pixels (camera)
"""

from stream_ad.demo.contact_sheet import contact_sheet
from stream_ad.demo.folders import write_product
from stream_ad.demo.product import Product, Rendered
from stream_ad.demo.products import PRODUCTS

__all__ = ["PRODUCTS", "Product", "Rendered", "contact_sheet", "write_product"]
