"""One module for each page. A page reads views of the engine and renders a template; an action changes something
and answers with the address to go to next."""
