"""The verbs, one room each: parse, call a public function, render."""
