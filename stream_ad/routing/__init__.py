"""Which task is this image? Pure: tensors and FAISS."""
