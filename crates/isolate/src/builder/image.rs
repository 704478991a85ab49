//! What an image says of its program, where the caller says nothing else.

use std::ffi::OsString;
use std::path::Path;

use isolate_images::Config;

use super::ContainerBuilder;
use crate::Mount;
use crate::error::Result;
use crate::user::User;

impl ContainerBuilder {
    /// What an image says of the program that is to run in it, as `docker run`: its entry point and command, environment, user, working
    /// directory and stop signal. What is said here by other methods, before or after, goes before: a [`command`](Self::command)
    /// is what the entry point gets in place of the image's own. Its volumes are [anonymous](Mount::anonymous_volume) unless something is
    /// mounted there; its ports are published only by name.
    ///
    /// ```no_run
    /// use isolate::images::{Layout, Platform};
    /// use isolate::{Container, Rootfs};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // As `skopeo copy docker-archive:tomcat.tar oci:/srv/tomcat:10` made it.
    /// let image = Layout::open("/srv/tomcat")?.image(Some("10"), &Platform::here())?;
    /// let layers = image.unpack("/var/lib/app/layers")?;
    /// let tomcat = Container::builder()
    ///     .rootfs(Rootfs::layers(layers))
    ///     .image_config(image.config())
    ///     .publish((9000, 8080))
    ///     .start()?;
    /// # Ok(()) }
    /// ```
    pub fn image_config(mut self, config: &Config) -> Self {
        self.image = Some(config.clone());
        self
    }

    /// Without an image: what it says is said in its place.
    pub(crate) fn as_image_says(&self) -> Result<Self> {
        let mut said = self.clone();
        let Some(image) = said.image.take() else { return Ok(said) };
        let words = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let arguments = if self.command.is_empty() { words(&image.command) } else { self.command.clone() };
        said.command = words(&image.entrypoint).into_iter().chain(arguments).collect();
        let variables = image.env.iter().map(|(name, value)| (name.into(), value.into()));
        said.env = variables.chain(self.env.iter().cloned()).collect();
        if said.workdir.is_none() && !image.workdir.is_empty() {
            said.workdir = Some(image.workdir.clone().into());
        }
        if said.confinement.user.is_none() && !image.user.is_empty() {
            said.confinement.user = Some(image.user.parse::<User>().map_err(|e| e.of("the image's user"))?);
        }
        if let (None, Some(signal)) = (said.stop_signal, &image.stop_signal) {
            let parsed = signal.parse().map_err(|e| crate::Error::from(e).of("the image's stop signal"))?;
            said.stop_signal = Some(parsed);
        }
        if said.health.is_none() {
            said.health = image.health_check.as_ref().map(Into::into);
        }
        // Docker's users expect to find in them what the image has there.
        for volume in &image.volumes {
            if !said.mounts.iter().any(|mount| mount.target() == Path::new(volume)) {
                said.mounts.push(Mount::anonymous_volume(volume));
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Container, Signal};

    fn image() -> Config {
        let mut config = Config::default();
        config.entrypoint = vec!["catalina.sh".into()];
        config.command = vec!["run".into()];
        config.env = vec![("A".into(), "image".into()), ("B".into(), "image".into())];
        config.user = "7:8".into();
        config.workdir = "/srv".into();
        config.stop_signal = Some("SIGINT".into());
        config
    }

    #[test]
    fn what_the_image_says_holds_where_nothing_else_is_said() {
        let builder = Container::builder().image_config(&image());
        let said = builder.as_image_says().unwrap();
        assert_eq!(said.command, ["catalina.sh", "run"]);
        assert_eq!(said.workdir.as_deref(), Some("/srv".as_ref()));
        assert_eq!(said.confinement.user, Some(User::id_and_group(7, 8)));
        assert_eq!(said.stop_signal, Some(Signal::INT));
    }

    #[test]
    fn what_the_caller_says_goes_before_and_the_entry_point_stays() {
        let builder =
            Container::builder().env("A", "caller").command(["stop"]).workdir("/").user(User::id(1));
        let builder = builder.stop_signal(Signal::QUIT).image_config(&image());
        let said = builder.as_image_says().unwrap();
        assert_eq!(said.command, ["catalina.sh", "stop"]);
        assert_eq!(
            said.env.last(),
            Some(&("A".into(), "caller".into())),
            "the last one of a name is what counts"
        );
        assert_eq!(said.workdir.as_deref(), Some("/".as_ref()));
        assert_eq!(said.confinement.user, Some(User::id(1)));
        assert_eq!(said.stop_signal, Some(Signal::QUIT));
    }

    #[test]
    fn what_the_image_says_wrongly_is_an_error_of_the_start() {
        let mut wrong = image();
        wrong.user = "4294967295".into();
        assert!(
            Container::builder()
                .image_config(&wrong)
                .as_image_says()
                .unwrap_err()
                .to_string()
                .contains("the image's user")
        );
        wrong.user.clear();
        wrong.stop_signal = Some("SIGNONE".into());
        let error = Container::builder().image_config(&wrong).as_image_says().unwrap_err();
        assert!(error.to_string().contains("the image's stop signal"), "{error}");
    }
}
