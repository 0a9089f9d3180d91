"""Result rows, their scores, and the tables made from them."""
