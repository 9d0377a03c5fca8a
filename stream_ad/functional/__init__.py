"""Pure functions of tensors and arrays, each naming its equation; they know nothing of ours but errors."""
