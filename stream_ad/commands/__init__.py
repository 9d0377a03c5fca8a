"""The commands, one file per subject. Nothing is computed here: arguments in, `App` asked, tables out."""
