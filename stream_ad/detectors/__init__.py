"""One file per method behind one protocol. They know backbones and pure functions; nothing of Kafka, SQL or files."""
