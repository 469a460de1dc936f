"""The staff pages of one hospital: desk, inbox and what belongs to them."""
