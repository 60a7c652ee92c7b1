"""Applications of a recovered transmission matrix: focusing, and images through the medium."""
