"""Question sets in the field's formats, to and from."""
