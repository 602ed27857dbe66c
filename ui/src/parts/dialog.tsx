// A modal dialog: open for as long as it is there, closed by Escape or by its buttons.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

interface Props {
  title: string;
  children: ComponentChildren;
  /** Without it there is no way around the dialog. */
  onCancel?: () => void;
  onConfirm: () => void;
  confirm: string;
}

export function Dialog({ title, children, onCancel, onConfirm, confirm }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  const cancel = (event: Event): void => {
    event.preventDefault();
    onCancel?.();
  };
  const closed = (): void => {
    const dialog = ref.current;
    if (!dialog?.isConnected) return;
    // Browsers close a dialog at repeated Escapes whatever is said against it.
    if (onCancel) onCancel();
    else dialog.showModal();
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    onConfirm();
  };
  return (
    <dialog ref={ref} aria-labelledby={id} onCancel={cancel} onClose={closed}>
      <form onSubmit={submit}>
        <h2 id={id}>{title}</h2>
        {children}
        <div class="buttons">
          {onCancel && <button type="button" onClick={onCancel}>Cancel</button>}
          <button type="submit" class="primary">{confirm}</button>
        </div>
      </form>
    </dialog>
  );
}
