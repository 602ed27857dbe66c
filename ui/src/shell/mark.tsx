// The mark: a mill wheel over water.
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 24 24" width="26" height="26" aria-hidden="true" fill="none" stroke="currentColor" stroke-linecap="round">
      <circle cx="12" cy="9.5" r="7" stroke-width="1.9" />
      <path d="M12 2.5v14M5 9.5h14M7 4.5l10 10M17 4.5l-10 10" stroke-width="1.2" />
      <path d="M2 21c2-2 4.5-2 6.5 0s4.5 2 6.5 0 4.5-2 6.5 0" stroke-width="1.9" />
    </svg>
  );
}
