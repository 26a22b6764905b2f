// People ask in sentences, and for numbers. Sphinx finds only pages with all words of a question, and
// drops numbers from it, although docsite/search.py has put them into the index. A deferred script
// runs after searchtools.js, and before the search begins.
if (typeof Search !== "undefined") {
  const parseQuery = Search._parseQuery;

  const isKnown = (word) =>
    [Search._index.terms, Search._index.titleterms].some(
      (index) => word in index || (word.length > 2 && Object.keys(index).some((each) => each.includes(word))),
    );

  Search._parseQuery = (query) => {
    const parsed = parseQuery(query);
    const [, searchTerms, , highlightTerms] = parsed;
    const numbers = splitQuery(query.trim()).filter((term) => /^\d+$/.test(term));
    if (numbers.length) {
      numbers.forEach((number) => searchTerms.add(number));
      numbers.forEach((number) => highlightTerms.add(number));
      localStorage.setItem("sphinx_highlight_terms", [...highlightTerms].join(" "));
    }
    // A word that no page has would leave the answer empty, whatever the other words find.
    const unknown = [...searchTerms].filter((word) => !isKnown(word));
    if (unknown.length < searchTerms.size) unknown.forEach((word) => searchTerms.delete(word));
    return parsed;
  };
}
