"""The painter of Grey Harbour: a question of three hops, its passages and its thoughts."""

from steper_serve.trajectory import Passage

QUESTION = "In which country was the painter of Grey Harbour born?"
HARBOUR = Passage("h", "Grey Harbour (painting)", "Grey Harbour is a painting by Alma Berg.")
BERG = Passage("b", "Alma Berg", "Alma Berg is a painter,\nborn in Oslo.")
OSLO = Passage("o", "Oslo", "Oslo is the capital of Norway.")
NORWAY = Passage("n", "Norway", "Norway is a country in Europe.")

SHOWN = {
    "h": "Wikipedia Title: Grey Harbour (painting)\nGrey Harbour is a painting by Alma Berg.\n\n",
    "b": "Wikipedia Title: Alma Berg\nAlma Berg is a painter, born in Oslo.\n\n",
    "o": "Wikipedia Title: Oslo\nOslo is the capital of Norway.\n\n",
    "n": "Wikipedia Title: Norway\nNorway is a country in Europe.\n\n",
}
FIRST = " Grey Harbour was painted by Alma Berg."
SECOND = " Alma Berg was born in Oslo."
