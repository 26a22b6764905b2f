// Sphinx drops numbers from a question, although docsite/search.py has put them into the index.
// A deferred script runs after searchtools.js, and before the search begins.
if (typeof Search !== "undefined") {
  const parseQuery = Search._parseQuery;

  Search._parseQuery = (query) => {
    const parsed = parseQuery(query);
    const [, searchTerms, , highlightTerms] = parsed;
    const numbers = splitQuery(query.trim()).filter((term) => /^\d+$/.test(term));
    if (numbers.length) {
      numbers.forEach((number) => searchTerms.add(number));
      numbers.forEach((number) => highlightTerms.add(number));
      localStorage.setItem("sphinx_highlight_terms", [...highlightTerms].join(" "));
    }
    return parsed;
  };
}
