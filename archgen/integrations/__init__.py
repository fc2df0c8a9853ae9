"""Other libraries' interfaces on archgen's members, one file a library; each is imported by its full name."""
