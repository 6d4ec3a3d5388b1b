//! The page's script: sorting of tables by a click on a head, figures as SVG files.
//!
//! Leaves out: everything the page needs to be read; it says the same without a script. Invariant:
//! nothing is fetched and nothing is kept.

/// Run once at the end of the page.
pub(super) const PAGE_SCRIPT: &str = r#"
'use strict';
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const first = [...body.rows];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell ? cell.dataset.v ?? cell.textContent : '';
  };
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const isNumber = head.classList.contains('number');
      const order = isNumber ? ['descending', 'ascending'] : ['ascending', 'descending'];
      const next = order[order.indexOf(head.ariaSort) + 1];
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      let rows = [...first];
      if (next) {
        head.setAttribute('aria-sort', next);
        const sign = next === 'ascending' ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [key(a, column), key(b, column)];
          if (!isNumber) return sign * x.localeCompare(y, undefined, {numeric: true});
          const [p, q] = [parseFloat(x), parseFloat(y)];
          if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
          return sign * (p - q);
        });
      }
      body.append(...rows);
    });
  });
}
const style = document.getElementById('figure-style').textContent;
for (const link of document.querySelectorAll('a.save')) {
  link.addEventListener('click', () => {
    const picture = link.closest('figure').querySelector('svg').cloneNode(true);
    const sheet = document.createElementNS('http://www.w3.org/2000/svg', 'style');
    sheet.textContent = style;
    picture.prepend(sheet);
    const text = new XMLSerializer().serializeToString(picture);
    link.href = URL.createObjectURL(new Blob([text], {type: 'image/svg+xml'}));
  });
}
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const details = target && target.closest('details');
  if (details) { details.open = true; target.scrollIntoView(); }
};
addEventListener('hashchange', open);
open();
for (const all of document.querySelectorAll('button.all')) {
  all.hidden = false;
  all.addEventListener('click', () => {
    const parts = [...all.closest('section').querySelectorAll('details.dataset')];
    const isOpen = parts.some((part) => !part.open);
    parts.forEach((part) => { part.open = isOpen; });
    all.textContent = isOpen ? 'Close all' : 'Open all';
  });
}
"#;
