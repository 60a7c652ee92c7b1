"""What a recovered transmission matrix is good for: focusing, and images through the medium."""
