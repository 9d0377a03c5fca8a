"""What jobs want of a bank that has their task already, one kind a file."""
